"""All results on one page of HTML, which needs no other file and no network."""

from __future__ import annotations

from splic_ext.report.lesson import LessonPage, lesson_page, write_lesson
from splic_ext.report.page import Page, make_page, write_report
from splic_ext.report.sources import Collection, NoResultError, Source, Unread, collect

__all__ = [
    "Collection",
    "LessonPage",
    "NoResultError",
    "Page",
    "Source",
    "Unread",
    "collect",
    "lesson_page",
    "make_page",
    "write_lesson",
    "write_report",
]
