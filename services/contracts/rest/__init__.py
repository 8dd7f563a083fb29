"""What the REST API takes and answers, for the API and its client: documents of their own, so that tables can change
without them."""
