"""The method: model, training and evaluation. Public names are loaded when first used."""
