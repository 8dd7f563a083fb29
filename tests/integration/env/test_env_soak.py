"""Many sessions leave nothing behind: a small version of `python -m benchmarks.env --soak 100000`."""

from services.env.tools.soak import soak


async def test_thousands_of_sessions_leave_no_memory_no_process_and_no_lease():
    figures = await soak(3_000, episodes_per_worker=400)
    assert figures["memory_ratio"] < 1.1
    assert figures["processes_after"] == figures["processes_before"] == 2
    assert figures["processes_left"] == 0
    assert figures["room_for_leases"] == figures["leases"]
