"""What the end of a test run shows, also of one in several processes."""


def pytest_terminal_summary(terminalreporter):
    """Print the figures of the campaigns."""
    reports = [r for key in ("passed", "failed") for r in terminalreporter.stats.get(key, [])]
    lines = [text for r in reports for what, text in r.user_properties if what == "figures"]
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
