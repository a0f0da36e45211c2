"""One table of all defenses; every row of it keeps the same promises."""
