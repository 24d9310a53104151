"""Wrong labels: finding, reviewing and correcting them."""
