"""What `gigpo doctor` looks at: each check says how a thing is and, when it isn't well, what to do."""
