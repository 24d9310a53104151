"""What two or more stages share."""
