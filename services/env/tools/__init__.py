"""Tools for authors and users of environments: play, check, bench, new. They need no running platform."""
