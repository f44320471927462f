"""Image and array files: which there are, how they are read and written, how they are completed."""

from splic_ext.files.pipeline import run_jobs
from splic_ext.files.plan import Job, PlanError, plan_jobs
from splic_ext.files.settings import JobSettings

__all__ = ["Job", "JobSettings", "PlanError", "plan_jobs", "run_jobs"]
