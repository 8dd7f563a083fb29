"""Every call of the API, written once; `http.binding` makes it plain on one client and awaitable on the other."""
