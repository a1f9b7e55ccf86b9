import pytest
import torch

from precomp_sdk.errors import OptionError
from precomp_sdk.task import TaskModel
from precomp_sdk.testing import FakeCodec, FakeTask
from precomp_sdk.validation import check_instance, find_device


def test_a_device_that_is_not_there_is_told():
    assert find_device("cpu", "here") == torch.device("cpu")
    with pytest.raises(OptionError, match=r"here, option 'device': expected a device .*; got cuda:99: .+'cpu'"):
        find_device("cuda:99", "here")
    with pytest.raises(OptionError, match="got abacus"):
        find_device("abacus", "here")


def test_what_is_no_object_of_a_contract_is_told_in_one_line():
    check_instance(FakeCodec(), FakeCodec, "here")
    with pytest.raises(OptionError, match="here: expected an object of FakeCodec; got the class FakeCodec"):
        check_instance(FakeCodec, FakeCodec, "here")
    with pytest.raises(OptionError) as caught:
        check_instance(["x" * 500], FakeCodec, "here")
    assert len(str(caught.value)) < 250
    with pytest.raises(OptionError) as caught:
        check_instance(torch.nn.Sequential(torch.nn.Identity()), FakeCodec, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_compiled_network_is_what_it_wraps():
    task = FakeTask()
    check_instance(torch.compile(task), TaskModel, "here")
    with pytest.raises(OptionError, match="expected an object of TaskModel"):
        check_instance(torch.compile(torch.nn.Identity()), TaskModel, "here")
