"""The whole table of problems, in one place."""

from lampstand.controller.cache_failover import CACHE_PROBLEMS
from lampstand.controller.failover import DATABASE_PROBLEMS
from lampstand.controller.problems import Problem
from lampstand.controller.web_problems import WEB_PROBLEMS

PROBLEMS: tuple[Problem, ...] = (*DATABASE_PROBLEMS, *CACHE_PROBLEMS, *WEB_PROBLEMS)
