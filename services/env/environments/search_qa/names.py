"""Invented names, so that no model knows an answer without a search."""

import random

STARTS = "b bl br c cr d dr f fl g gl gr h j k kr l m n p pr qu r s sh sk st t th tr v w z"
MIDDLES = "a e i o u ae au ei ia io oa ou"
ENDS = "b d f k l m n p r s t v x nd rn lm st sk rt nt th"
CONTINENTS = ("Auralia", "Borea", "Cindra", "Dovia", "Estoria")
PROFESSIONS = (
    *("architect", "astronomer", "botanist", "chemist", "composer", "diplomat", "engineer", "geologist", "historian"),
    *("journalist", "lawyer", "mathematician", "nurse", "painter", "philosopher", "pilot", "sculptor", "surgeon"),
)
GOODS = (
    *("bicycles", "bridges", "cameras", "clocks", "engines", "furniture", "glass", "lamps", "medicines", "paper"),
    *("pianos", "pumps", "ships", "shoes", "steel", "telescopes", "toys", "turbines"),
)
FIRMS = ("Works", "Industries", "Group", "Laboratories", "Brothers", "Company")
BOOKS = ("Chronicle", "Song", "Garden", "Shadow", "Bridge", "Letters", "Winter", "Secret", "Voyage", "Children")
TOPICS = ("a long journey", "a lost inheritance", "two rival families", "the end of a war", "life at sea", "a trial")


class Names:
    """Draws names, none twice."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._given: set[str] = set()
        self._starts, self._middles, self._ends = STARTS.split(), MIDDLES.split(), ENDS.split()

    def new(self, pattern: str = "{}") -> str:
        """The pattern with a word in each pair of braces; drawn again until nobody has it."""
        while True:
            name = pattern.format(*(self._word() for _ in range(pattern.count("{}"))))
            if name not in self._given:
                self._given.add(name)
                return name

    def _word(self) -> str:
        choose = self._rng.choice
        syllables = (choose(self._starts) + choose(self._middles) for _ in range(self._rng.randint(1, 2)))
        return ("".join(syllables) + choose(self._starts) + choose(self._middles) + choose(self._ends)).capitalize()
