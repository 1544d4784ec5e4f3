"""From the declared sources to a judged table: read, joined, described, validated and split."""
