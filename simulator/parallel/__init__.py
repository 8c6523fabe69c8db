"""How ranks are laid out: meshes, placements of tensors on them, and what a legal layout is."""
