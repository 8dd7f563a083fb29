"""What authors and users of environments run by hand: play, check, bench, new. Needs no running platform."""
