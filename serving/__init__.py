"""Export, server and client. Public names are loaded when first used."""
