"""What the API takes and answers: documents of their own, so that tables can change without them."""
