"""Invents a world of countries, cities, people, firms and books, with a passage on each and questions about them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from gigpo.env.progress import report_each
from services.env.environments.search_qa.library import Passage, Question
from services.env.environments.search_qa.names import (
    BOOKS,
    CONTINENTS,
    FIRMS,
    GOODS,
    PROFESSIONS,
    TOPICS,
    Names,
)
from services.env.environments.splits import in_test_split

SHARES = {"country": 0.04, "city": 0.16, "person": 0.4, "firm": 0.2, "book": 0.2}
"""Share of the passages of each kind."""


@dataclass
class Country:
    """A country; `capital` is set once there are cities."""

    name: str
    continent: str
    currency: str
    language: str
    capital: "City | None" = None


@dataclass
class City:
    """A city in a country; `mayor` is set once there are people."""

    name: str
    country: Country
    river: str
    inhabitants: int
    mayor: "Person | None" = None


@dataclass
class Person:
    """Someone who was born in a city."""

    name: str
    birthplace: City
    year: int
    profession: str


@dataclass
class Firm:
    """A firm with its seat and its founder."""

    name: str
    seat: City
    founder: Person
    year: int
    goods: str


@dataclass
class Book:
    """A book and who wrote it."""

    name: str
    author: Person
    year: int
    topic: str


Thing = Country | City | Person | Firm | Book


@dataclass
class World:
    """Everything there is."""

    countries: list[Country]
    cities: list[City]
    people: list[Person]
    firms: list[Firm]
    books: list[Book]

    def things(self) -> list[Thing]:
        """All of it."""
        return [*self.countries, *self.cities, *self.people, *self.firms, *self.books]


def draw_world(rng: random.Random, passages: int) -> World:
    """A world about which `passages` passages can be written."""
    names = Names(rng)
    count = {kind: max(2, int(passages * share)) for kind, share in SHARES.items()}
    count["person"] += passages - sum(count.values())
    countries = [
        Country(names.new("{}ia"), rng.choice(CONTINENTS), names.new().lower(), names.new("{}ish"))
        for _ in range(count["country"])
    ]
    cities = [
        City(names.new(), rng.choice(countries), names.new(), rng.randint(20, 9000) * 1000)
        for _ in range(count["city"])
    ]
    people = [
        Person(names.new("{} {}"), rng.choice(cities), rng.randint(1850, 1990), rng.choice(PROFESSIONS))
        for _ in range(count["person"])
    ]
    firms = [
        Firm(names.new(f"{{}} {rng.choice(FIRMS)}"), rng.choice(cities), rng.choice(people), 0, rng.choice(GOODS))
        for _ in range(count["firm"])
    ]
    books = [
        Book(names.new(f"The {rng.choice(BOOKS)} of {{}}"), rng.choice(people), 0, rng.choice(TOPICS))
        for _ in range(count["book"])
    ]
    for country, capital in zip(countries, rng.sample(cities, len(countries)), strict=True):
        country.capital, capital.country = capital, country
    for city in cities:
        city.mayor = rng.choice(people)
    for firm in firms:
        firm.year = firm.founder.year + rng.randint(20, 60)
    for book in books:
        book.year = book.author.year + rng.randint(20, 60)
    return World(countries, cities, people, firms, books)


def written_passages(world: World) -> list[Passage]:
    """A passage on each thing, titled with its name."""
    return [Passage(f'"{thing.name}"', _written(thing)) for thing in report_each(world.things())]


def _written(thing: Thing) -> str:
    if isinstance(thing, Country):
        assert thing.capital is not None
        return (
            f"{thing.name} is a country in {thing.continent}. Its capital is {thing.capital.name}. "
            f"People there speak {thing.language} and pay with the {thing.currency}."
        )
    if isinstance(thing, City):
        assert thing.mayor is not None
        return (
            f"{thing.name} is a city in {thing.country.name} on the river {thing.river}, with {thing.inhabitants} "
            f"inhabitants. The mayor of {thing.name} is {thing.mayor.name}."
        )
    if isinstance(thing, Person):
        return f"{thing.name} (born {thing.year} in {thing.birthplace.name}) is known as {_a(thing.profession)}."
    if isinstance(thing, Firm):
        return (
            f"{thing.name} makes {thing.goods}. {thing.founder.name} founded it in {thing.year}; its headquarters are "
            f"in {thing.seat.name}."
        )
    return f"{thing.name} is a novel about {thing.topic}, written by {thing.author.name} and published in {thing.year}."


def asked_questions(world: World) -> Iterator[tuple[str, Question]]:
    """Every question and the name of the thing that it is about."""
    for country in world.countries:
        assert country.capital is not None
        yield _question(country, f"What is the capital of {country.name}?", country.capital.name)
        yield _question(country, f"Which currency is used in {country.name}?", country.currency)
    for city in world.cities:
        where = f"the country in which the city {city.name} lies"
        yield _question(city, f"On which river does the city {city.name} lie?", city.river)
        yield _question(city, f"Which currency is used in {where}?", city.country.currency, city.country)
        yield _question(city, f"Which language is spoken in {where}?", city.country.language, city.country)
    for person in world.people:
        home = person.birthplace
        yield _question(person, f"In which year was {person.name} born?", str(person.year))
        yield _question(person, f"In which country was {person.name} born?", home.country.name, home)
    for firm in world.firms:
        mayor = firm.seat.mayor
        assert mayor is not None
        founder = f"the founder of {firm.name}"
        yield _question(firm, f"In which year was {founder} born?", str(firm.founder.year), firm.founder)
        yield _question(firm, f"Who is the mayor of the city where {firm.name} has its seat?", mayor.name, firm.seat)
        home = firm.founder.birthplace
        yield _question(firm, f"In which country was {founder} born?", home.country.name, firm.founder, home)
    for book in world.books:
        author, home = book.author, book.author.birthplace
        yield _question(book, f"Who wrote {book.name}?", author.name)
        yield _question(book, f"What is the profession of the author of {book.name}?", author.profession, author)
        yield _question(
            book, f"On which river lies the city where the author of {book.name} was born?", home.river, author, home
        )


def split_questions(world: World, rng: random.Random) -> dict[str, list[Question]]:
    """The questions in a random order; the test split asks about things that train never asks about."""
    questions = list(asked_questions(world))
    rng.shuffle(questions)
    splits: dict[str, list[Question]] = {"train": [], "test": []}
    for about, question in questions:
        splits["test" if in_test_split(about) else "train"].append(question)
    return splits


def _question(about: Thing, text: str, answer: str, *after: Thing) -> tuple[str, Question]:
    """A question about a thing; the passages on it and on those `after` it lead to the answer."""
    return about.name, Question(text, (answer,), (about.name, *(thing.name for thing in after)))


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
