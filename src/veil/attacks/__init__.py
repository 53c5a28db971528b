"""One file = one attacker family; nothing here knows how the release was learned."""
