"""Everything that touches the machine, one device per file."""
