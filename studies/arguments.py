"""Options of studies that take several values, separated by commas."""


def names(text: str) -> list[str]:
    """Return the parts of an option such as ``tfidf,lstm``."""
    return text.split(",")


def numbers(text: str) -> list[int]:
    """Return the numbers of an option such as ``0,1,2``; ``ValueError`` if one is none."""
    return [int(number) for number in text.split(",")]


def shares(text: str) -> list[float]:
    """Return the shares of an option such as ``0,0.1``; ``ValueError`` if one is none."""
    return [float(share) for share in text.split(",")]
