"""What every level shares: locations, diagnostics, levels, parsing and verification."""
