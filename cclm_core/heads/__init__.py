"""Heads: from features per character to the answer of a task."""

from cclm_core.heads.base import Head as Head
from cclm_core.heads.base import HeadContext as HeadContext
from cclm_core.heads.catalogue import HeadConfig as HeadConfig
from cclm_core.heads.catalogue import default_head as default_head
from cclm_core.heads.pooling import Pooling as Pooling
