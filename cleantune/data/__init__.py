"""From released rows to clean tables: sources, readers, repair, near-duplicates, the split."""
