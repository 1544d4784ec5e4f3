"""What a person reads: explanations, plots, the report and the card."""
