"""What the operator wants: the TOML profile, parsed, checked and resolved.

`spec` holds the values that everything else works with, `document` the shape of the file,
`load` turns one into the other and reports every problem with its line.
"""
