"""How the images to ask about are chosen: one file per attack."""
