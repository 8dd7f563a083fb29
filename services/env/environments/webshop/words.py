"""The words of the invented shop: products, attributes, brands."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Department:
    """One of WebShop's five categories: groups of kinds of things, and what they have in common."""

    path: str
    """First component of the category path."""
    groups: dict[str, tuple[str, ...]]
    """Second component -> kinds; a kind is the third component and the product's query."""
    attributes: tuple[str, ...]
    options: dict[str, tuple[str, ...]]
    """Name of an option -> its possible values."""


COLOURS = (
    *("black", "white", "navy", "red", "green", "pink", "grey", "teal", "beige", "purple", "brown", "ivory"),
    *("dark blue", "light grey", "rose gold", "olive green", "wine red", "charcoal"),
)

DEPARTMENTS = {
    "beauty": Department(
        "Beauty & Personal Care",
        {
            "Hair Care": ("shampoo", "conditioner", "hair brush", "hair oil"),
            "Makeup": ("lipstick", "eyeliner", "mascara", "makeup brush"),
            "Skin Care": ("face mask", "body lotion", "face serum", "hand cream"),
            "Tools & Accessories": ("nail polish", "toothbrush", "perfume bottle", "shower cap"),
        },
        (
            *("cruelty free", "sulfate free", "long lasting", "paraben free", "easy to use", "natural ingredients"),
            *("fragrance free", "travel size", "tea tree", "hyaluronic acid", "dry skin", "sensitive skin"),
            *("damaged hair", "fine mist", "high quality", "non toxic", "argan oil", "leak proof"),
        ),
        {"color": COLOURS, "size": ("1 ounce", "2 ounce", "4 ounce", "8 ounce", "16 ounce", "travel set")},
    ),
    "electronics": Department(
        "Electronics",
        {
            "Headphones": ("headphones", "earbuds", "headset", "headphone stand"),
            "Accessories & Supplies": ("charger", "hdmi cable", "power strip", "usb hub"),
            "Computers & Accessories": ("keyboard", "mouse pad", "monitor stand", "laptop sleeve"),
            "Camera & Photo": ("camera bag", "tripod", "ring light", "memory card"),
        },
        (
            *("fast charging", "noise cancelling", "wireless bluetooth", "high speed", "water resistant", "plug play"),
            *("heavy duty", "easy to install", "carrying case", "gold plated", "ultra hd", "quad core"),
            *("stereo sound", "hands free", "long battery life", "light weight", "non slip", "1080p hd"),
        ),
        {"color": COLOURS, "size": ("3 ft", "6 ft", "10 ft", "15 ft", "2 pack", "4 pack")},
    ),
    "fashion": Department(
        "Clothing, Shoes & Jewelry",
        {
            "Shirts": ("t-shirt", "polo shirt", "sweater", "hoodie"),
            "Shoes": ("sneakers", "sandals", "boots", "slippers"),
            "Pants": ("jeans", "leggings", "shorts", "pajama pants"),
            "Accessories": ("jacket", "backpack", "scarf", "belt"),
        },
        (
            *("machine wash", "slim fit", "long sleeve", "rubber sole", "relaxed fit", "quick drying"),
            *("button closure", "memory foam", "elastic waist", "hand wash", "arch support", "cotton spandex"),
            *("wide leg", "faux fur", "high waist", "anti slip", "drawstring closure", "daily wear"),
        ),
        {
            "color": COLOURS,
            "size": ("x-small", "small", "medium", "large", "x-large", "xx-large"),
            "fit type": ("men", "women", "youth"),
        },
    ),
    "garden": Department(
        "Home & Kitchen",
        {
            "Furniture": ("console table", "bookshelf", "bed frame", "ottoman"),
            "Bedding": ("throw pillow", "duvet cover", "blanket", "mattress topper"),
            "Lighting": ("floor lamp", "pendant light", "desk lamp", "string lights"),
            "Decor": ("area rug", "curtains", "wall mirror", "candle holder"),
        },
        (
            *("easy to assemble", "solid wood", "space saving", "spot clean", "stainless steel", "easy to clean"),
            *("faux leather", "mid century", "machine washable", "living room", "super soft", "wall mounted"),
            *("tempered glass", "non slip base", "energy efficient", "white finish", "queen size", "dining room"),
        ),
        {"color": COLOURS, "size": ("2 x 3 ft", "4 x 6 ft", "5 x 7 ft", "8 x 10 ft", "twin", "king")},
    ),
    "grocery": Department(
        "Grocery & Gourmet Food",
        {
            "Beverages": ("coffee beans", "tea bags", "protein shake", "fruit juice"),
            "Snacks": ("granola bars", "trail mix", "rice crackers", "popcorn"),
            "Cooking & Baking": ("olive oil", "cake mix", "spice blend", "pasta sauce"),
            "Candy & Chocolate": ("chocolate bar", "gummy candy", "caramels", "cookies"),
        },
        (
            *("gluten free", "low sugar", "usda organic", "non gmo", "keto friendly", "dairy free"),
            *("low calorie", "fair trade", "sugar free", "plant based", "high protein", "kosher certified"),
            *("ready to eat", "artificial flavors", "soy free", "low sodium", "individually wrapped", "nut free"),
        ),
        {
            "flavor name": ("vanilla", "cocoa", "lemon", "ginger", "mint", "berry", "salted caramel", "original"),
            "size": ("4 ounce (pack of 1)", "4 ounce (pack of 6)", "12 ounce (pack of 2)", "2 pound (pack of 1)"),
        },
    ),
}

BRAND_STARTS = (
    *("ac", "bel", "cor", "dun", "el", "fen", "gal", "hol", "il", "jor", "kes", "lum", "mis", "nor", "or", "pal"),
    *("qua", "rov", "sol", "tun", "ur", "vir", "wex", "xan", "yel", "zen"),
)
BRAND_ENDS = ("ador", "bia", "dra", "vik", "mere", "nova", "port", "ria", "stel", "trel", "una", "wick")
THINGS = ("set", "kit", "bundle", "collection", "edition", "series")
"""Words that may end a title; every title's words are nouns but those of its attributes."""
OCCASIONS = ("home", "travel", "work", "school", "gifts", "holidays", "parties", "weekends")
WISHES = ("i am looking for a {} {}", "i need a {} {}", "find me a {} {}", "i want to buy a {} {}")
