"""WebShop's shop in text (Yao et al. 2022, arXiv:2207.01206): search, look at products, choose options, buy.

`product` defines products and goals, `catalogue` invents products (from the words in `words`), `files` reads the user's
own, `shop` adds an index and goals, `browsing` holds the pages and clicks, `reward` scores a purchase, `environment`
shows the shop to an agent. It needs neither the code of WebShop nor its scraped data.
"""
