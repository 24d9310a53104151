"""Label errors: finding, reviewing and correcting them."""
