"""WebShop's shop in text (Yao et al. 2022, arXiv:2207.01206): search, look at products, choose options, buy.

`product` says what a product and a goal are, `catalogue` makes products up (from the words in `words`), `files` reads
the user's own, `shop` puts index and goals beside them, `browsing` holds the pages and clicks, `reward` the price of a
purchase, `environment` shows it to an agent. Nothing of the webshop code and none of its scraped data is needed.
"""
