"""What users and workers can do: one async function each, and the loops that keep time."""
