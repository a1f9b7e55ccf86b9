"""Results as HTML pages, each one file that needs nothing else."""

from precomp_sdk.evaluation.page.documents import evaluation_page, proxy_page, runs_page, transfer_page

__all__ = ["evaluation_page", "proxy_page", "runs_page", "transfer_page"]
