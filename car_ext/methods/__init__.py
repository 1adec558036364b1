"""Every method of the field, one word each."""
