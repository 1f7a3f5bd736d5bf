"""Running printed programs: constants, packing, launching on a GPU or the CPU, generating."""
