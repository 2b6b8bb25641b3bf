"""What ci/sbom takes for a licence that is allowed."""

import unittest

from sbom import expression, is_allowed

ALLOWED = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]


class Licences(unittest.TestCase):
    def test_expressions_are_met_or_not(self):
        for text, met in [
            ("MIT", True),
            ("GPL-3.0", False),
            ("MIT OR GPL-3.0", True),
            ("MIT AND GPL-3.0", False),
            ("(MIT OR GPL-3.0) AND Apache-2.0", True),
            ("GPL-3.0 AND (MIT OR Apache-2.0)", False),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", True),
            ("Apache-2.0 WITH Other-exception", False),
            ("MIT GPL-3.0", False),
            ("", False),
        ]:
            self.assertEqual(is_allowed(text, ALLOWED), met, text)

    def test_older_ways_to_write_a_choice_are_read(self):
        for text in ["MIT/Apache-2.0", "MIT or Apache-2.0", "MIT  OR  Apache-2.0"]:
            self.assertEqual(expression({"license": text}), "MIT OR Apache-2.0")


if __name__ == "__main__":
    unittest.main()
