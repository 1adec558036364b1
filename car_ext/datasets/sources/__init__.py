"""The forms of data: each file holds one, as `SOURCE`, and is found by being here."""
