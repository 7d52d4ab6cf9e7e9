"""What stands beside an answer: sculpting, spurious signals, injections, uniform p-values."""
