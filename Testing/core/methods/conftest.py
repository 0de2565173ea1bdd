"""What the tests of objectives share."""

import pytest
from method_samples import chosen


@pytest.fixture(params=[2, 3])
def setting(request):
    """Numbers, batch, student and teacher for so many classes."""
    return chosen(request.param)
