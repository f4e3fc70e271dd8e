"""What a network takes, of what its receiver says: estimates of a still face are no news, those of a queue are."""

from __future__ import annotations

from edge.avatars.bandwidth import FLOOR_BPS, Bandwidth

WANTED = 800_000


class Link:
    """A viewer of whom a second's media is sent before each estimate."""

    def __init__(self, wanted_bps: int = WANTED) -> None:
        self.bandwidth = Bandwidth(wanted_bps, 0.0)
        self.now = 10.0

    def told(self, sent_bps: int, *estimates: int) -> list[int]:
        """Return the targets after each estimate that changed it."""
        found = []
        for estimate in estimates:
            self.now += 1.1
            self.bandwidth.sent(sent_bps // 8, self.now)
            if self.bandwidth.told(estimate, self.now):
                found.append(self.bandwidth.target_bps)
        return found


def test_a_still_face_s_estimates_do_not_blur_it():
    link = Link()
    # They begin low and climb; and fall with what is sent, to half as much again.
    assert link.told(280_000, 300_000, 340_000, 420_000) == []
    assert link.told(700_000, 450_000, 490_000) == [], "it climbs behind a face that has begun to speak"
    assert link.told(280_000, 900_000, 430_000) == [], "and falls when it is still again"
    assert link.bandwidth.target_bps == WANTED


def test_an_estimate_that_falls_below_what_is_sent_is_followed_down_and_up_again():
    link = Link()
    assert link.told(780_000, 900_000, 600_000) == [600_000]
    assert link.told(600_000, 500_000) == [500_000]
    assert link.told(450_000, 540_000) == [], "a tenth is not worth it"
    assert link.told(450_000, 560_000, 700_000) == [560_000, 700_000]
    assert link.told(650_000, 1_200_000) == [WANTED]
    assert link.told(780_000, 1_300_000, 1_400_000) == []


def test_no_estimate_asks_for_less_than_a_picture_takes():
    link = Link()
    assert link.told(780_000, 900_000, 5_000) == [FLOOR_BPS]
    small = Link(100_000)
    assert small.told(90_000, 95_000, 5_000) == [], "which may be all that is wanted"


def test_first_estimates_and_hasty_ones_wait():
    bandwidth = Bandwidth(WANTED, 0.0)
    bandwidth.sent(100_000, 2.9)
    assert not bandwidth.told(700_000, 2.8)
    assert not bandwidth.told(400_000, 2.9)
    bandwidth.sent(100_000, 4.0)
    assert not bandwidth.told(600_000, 4.0)
    assert bandwidth.told(500_000, 4.1)
    assert not bandwidth.told(400_000, 4.2)
    # What fell meanwhile is not forgotten.
    bandwidth.sent(100_000, 4.7)
    assert bandwidth.told(410_000, 4.7)
    assert bandwidth.target_bps == 410_000


def test_an_estimate_that_climbs_no_more_below_what_is_sent_is_trouble():
    link = Link()
    assert link.told(780_000, 210_000, 220_000, 220_000) == []
    # 1.5 s without a climb: less than what is sent, though the estimate itself says little.
    assert link.told(780_000, 220_000, 220_000) == [663_000]
    assert link.told(600_000, 220_000, 220_000) == [510_000]
    # It climbs again, far below: after a while more is tried, step by step.
    calm = link.told(500_000, *range(221_000, 241_000, 1_000))
    assert calm[0] == int(510_000 * 1.101)
    assert calm[-1] == WANTED
    assert len(calm) == 5


def test_losses_count_by_half():
    link = Link()
    link.told(780_000, 900_000)
    assert not link.bandwidth.lost(0.1, link.now), "a tenth is what the air takes"
    assert link.bandwidth.lost(0.5, link.now + 0.1)
    assert link.bandwidth.target_bps == 585_000
    assert not link.bandwidth.lost(0.9, link.now + 0.2), "that was sent before"
    assert not Link().bandwidth.lost(0.5, 2.9), "it has just begun"


def test_lost_packets_are_sent_again_in_a_part_of_the_rate():
    bandwidth = Bandwidth(WANTED, 0.0)
    assert sum(bandwidth.may_repeat(1_024, 0.0) for _ in range(100)) == 32, "a burst"
    again = sum(bandwidth.may_repeat(1_000, at / 1_000) for at in range(1, 10_001))
    assert again in (249, 250), "a quarter of 800 kbit/s for ten seconds"


def test_what_was_sent_is_forgotten_after_a_second():
    bandwidth = Bandwidth(WANTED, 0.0)
    bandwidth.told(700_000, 9.0)
    bandwidth.sent(1_000_000, 8.5)
    assert not bandwidth.told(600_000, 10.0)
