"""From raw interaction logs to TFRecord sequences: one Apache Beam job.

Importing this package imports neither Beam nor numpy, so that the command line's help
and the readers of :mod:`adaptiverec.pipeline.contract` stay quick; :func:`prepare`
imports them when it is called.
"""

from adaptiverec.pipeline.api import prepare

__all__ = ["prepare"]
