"""inference.GRPCInferenceService: imported only where it was asked for."""
