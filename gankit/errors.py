"""What gankit says when a request cannot be met."""


class UserError(Exception):
    """The request is wrong: one line that says what, where and what to do. The command line exits with 2."""


class TrainingError(Exception):
    """A training could not go on (a network, a loss or the disk failed). The command line exits with 1."""
