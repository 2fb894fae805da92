"""The commands, one file each; a command's module is imported only when it runs."""
