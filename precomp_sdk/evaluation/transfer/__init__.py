"""The transfer matrix: preprocessors on backbones and codecs, inside their training loop and outside."""

from precomp_sdk.evaluation.transfer.matrix import transfer_matrix
from precomp_sdk.evaluation.transfer.records import TrainedWith, TransferCell, TransferMatrix
from precomp_sdk.evaluation.transfer.report import read_transfer, write_transfer

__all__ = ["TrainedWith", "TransferCell", "TransferMatrix", "read_transfer", "transfer_matrix", "write_transfer"]
