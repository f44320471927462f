"""The paper's figures, each one function."""

__all__: list[str] = []
