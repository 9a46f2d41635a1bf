"""Measures of samples: functions of tensors and nothing else, without side effects."""
