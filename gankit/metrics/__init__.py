"""Measures of samples: functions of tensors, without side effects."""
