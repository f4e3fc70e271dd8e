"""How soon a face is there, answers, and is quiet again."""
