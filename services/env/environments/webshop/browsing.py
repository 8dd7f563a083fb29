"""The pages of the shop and their links."""

import re
from typing import Literal

from services.env.environments.webshop.product import Goal, Product
from services.env.environments.webshop.shop import Shop

PER_PAGE = 10
ACTION = re.compile(r"(.+)\[(.+)\]")
"""A verb and its argument; up to the last bracket that opens, and what follows the last that closes does not count."""
SEPARATOR = " [SEP] "

Page = Literal["search", "results", "item", "description", "features", "reviews", "done"]
SUB_PAGES: dict[str, Page] = {"description": "description", "features": "features", "reviews": "reviews"}


class Visit:
    """One customer in the shop."""

    def __init__(self, shop: Shop, goal: Goal) -> None:
        self.shop, self.goal = shop, goal
        self.page: Page = "search"
        self.hits: tuple[int, ...] = ()
        """Results of the last search; numbers of products."""
        self.results_page = 1
        self.product: Product | None = None
        """The one that is looked at."""
        self.chosen: dict[str, str] = {}
        """Options that were clicked for it, name -> value. No page shows them."""

    def listed(self) -> list[Product]:
        """The products on the current page of results; pages past the last hit have none."""
        first = (self.results_page - 1) * PER_PAGE
        return [self.shop.products[number] for number in self.hits[first : first + PER_PAGE]]

    def clickables(self) -> list[str]:
        """Texts that can be clicked, lower case, in the order of the page."""
        if self.page in ("search", "done"):
            return ["search"] if self.page == "search" else []
        if self.page == "results":
            back = ["< prev"] if self.results_page > 1 else []
            return ["back to search", *back, "next >", *(product.asin.lower() for product in self.listed())]
        if self.page in SUB_PAGES:
            return ["back to search", "< prev"]
        values = (value for values in self._shown().options.values() for value in values)
        return list(dict.fromkeys(["back to search", "< prev", *SUB_PAGES, "buy now", *values]))

    def visible(self) -> list[str]:
        """The texts of the page, without the instruction that stands above each."""
        if self.page == "search":
            return ["Search"]
        if self.page == "results":
            back = ["< Prev"] if self.results_page > 1 else []
            head = ["Back to Search", f"Page {self.results_page} (Total results: {len(self.hits)})", *back, "Next >"]
            return [*head, *(text for item in self.listed() for text in (item.asin, item.title, item.price_tag))]
        if self.page == "done":
            return ["Thank you for shopping with us!"]
        product = self._shown()
        texts = ["Back to Search", "< Prev"]
        if self.page == "description":
            texts.append(product.description)
        elif self.page == "features":
            texts.extend(product.bullet_points)
        elif self.page == "item":
            for name, values in product.options.items():
                texts.extend([name, *values])
            texts.extend([product.title, f"Price: {product.price_tag}", "Rating: N.A."])
            texts.extend(["Description", "Features", "Reviews", "Buy Now"])
        return [text for text in texts if text.strip()]

    def text(self, *, with_instruction: bool = False) -> str:
        """The page as WebShop's "text" mode writes it."""
        title = ["WebShop"] if self.page == "search" else []
        above = [*title, "Instruction:", self.goal.instruction] if with_instruction and self.page != "done" else []
        return SEPARATOR.join([*above, *self.visible()])

    def act(self, action: str) -> bool:
        """Do what the action says; False, and nothing is done, where it says nothing that can be done here."""
        found = ACTION.match(action)
        if found is None or self.page == "done":
            return False
        verb, argument = found[1], found[2].lower()
        if verb == "search":
            self._to_results(self.shop.search(argument), 1)
        elif verb == "click" and argument != "search" and argument in self.clickables():
            self._click(argument)
        else:
            return False
        return True

    def _click(self, name: str) -> None:
        if name == "back to search":
            self._to_results((), 1)
            self.page = "search"
        elif self.page == "results":
            self._click_in_results(name)
        elif name == "buy now":
            self.page = "done"
        elif name == "< prev":
            if self.page == "item":
                self._to_results(self.hits, self.results_page)
            else:
                self.page = "item"
        elif name in SUB_PAGES:
            self.page = SUB_PAGES[name]
        else:
            offering = [option for option, values in self._shown().options.items() if name in values]
            self.chosen[offering[-1]] = name

    def _click_in_results(self, name: str) -> None:
        if name in ("next >", "< prev"):
            self.results_page += 1 if name == "next >" else -1
        else:
            self.page, self.product, self.chosen = "item", self.shop.by_asin[name], {}

    def _to_results(self, hits: tuple[int, ...], page: int) -> None:
        self.page, self.hits, self.results_page = "results", hits, page
        self.product, self.chosen = None, {}

    def _shown(self) -> Product:
        assert self.product is not None
        return self.product
