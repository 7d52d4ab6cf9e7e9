"""Upper limits by CLs, and the models and cards that others read."""
