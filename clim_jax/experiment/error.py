"""The error of a person's mistake."""


class ConfigError(ValueError):
  """What cannot work as it was asked for; the message has value, limit and mend."""
