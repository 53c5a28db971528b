"""What SynthFaces says about a face: CelebA's attributes with their rates and correlations.

The rates are those of CelebA (Liu, Luo, Wang and Tang, "Deep Learning Face Attributes in the
Wild", ICCV 2015): the share of its 202,599 photos that carry the attribute. The one attribute of
its forty left out is Attractive, which cannot honestly be drawn.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attribute:
    """One binary label.

    Attributes:
        rate: share of photos in which it is 1.
        persistence: correlation, between two photos of a person, of the part of this attribute
            that the attributes before it do not explain; 1 for what a person is.
        noise: share of photos whose label contradicts the picture (an annotator's mistakes).
    """

    rate: float
    persistence: float = 1.0
    noise: float = 0.0


# What a person is comes first, what one photo shows comes last: the copula needs it so.
ATTRIBUTES: dict[str, Attribute] = {
    "Male": Attribute(0.4168, noise=0.015),
    "Young": Attribute(0.7736, noise=0.04),
    "Arched_Eyebrows": Attribute(0.2670),
    "Bald": Attribute(0.0224),
    "Big_Lips": Attribute(0.2408),
    "Big_Nose": Attribute(0.2345),
    "Black_Hair": Attribute(0.2393),
    "Blond_Hair": Attribute(0.1480),
    "Brown_Hair": Attribute(0.2052),
    "Bushy_Eyebrows": Attribute(0.1422),
    "Chubby": Attribute(0.0576),
    "Double_Chin": Attribute(0.0467),
    "Gray_Hair": Attribute(0.0419),
    "Oval_Face": Attribute(0.2841),
    "Pale_Skin": Attribute(0.0429),
    "Pointy_Nose": Attribute(0.2774),
    "Receding_Hairline": Attribute(0.0798),
    "Straight_Hair": Attribute(0.2084, persistence=0.8),
    "Wavy_Hair": Attribute(0.3196, persistence=0.8),
    "No_Beard": Attribute(0.8349, persistence=0.8),
    "5_o_Clock_Shadow": Attribute(0.1111, persistence=0.6),
    "Goatee": Attribute(0.0628, persistence=0.8),
    "Mustache": Attribute(0.0415, persistence=0.8),
    "Sideburns": Attribute(0.0565, persistence=0.8),
    "Bags_Under_Eyes": Attribute(0.2046, persistence=0.7),
    "Narrow_Eyes": Attribute(0.1151, persistence=0.5),
    "Bangs": Attribute(0.1516, persistence=0.6),
    "Eyeglasses": Attribute(0.0651, persistence=0.6),
    "Wearing_Lipstick": Attribute(0.4724, persistence=0.4),
    "Heavy_Makeup": Attribute(0.3869, persistence=0.4),
    "Rosy_Cheeks": Attribute(0.0657, persistence=0.4),
    "Smiling": Attribute(0.4821, persistence=0.2, noise=0.065),
    "High_Cheekbones": Attribute(0.4550, persistence=0.2, noise=0.04),
    "Mouth_Slightly_Open": Attribute(0.4834, persistence=0.1, noise=0.06),
    "Wearing_Earrings": Attribute(0.1889, persistence=0.3),
    "Wearing_Necklace": Attribute(0.1230, persistence=0.2),
    "Wearing_Necktie": Attribute(0.0727, persistence=0.2),
    "Wearing_Hat": Attribute(0.0485, persistence=0.2),
    "Blurry": Attribute(0.0509, persistence=0.0),
}

# FairFace's classes (Kärkkäinen and Joo, "FairFace", WACV 2021).
RACES = (
    "White",
    "Black",
    "Latino_Hispanic",
    "East Asian",
    "Southeast Asian",
    "Indian",
    "Middle Eastern",
)
AGE_GROUPS = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")

# Age in years -> share of people younger; Young means under 40.
AGES: tuple[tuple[float, float], ...] = (
    (0.5, 0.0005),
    (3, 0.014),
    (10, 0.05),
    (20, 0.14),
    (30, 0.46),
    (40, ATTRIBUTES["Young"].rate),
    (50, 0.89),
    (60, 0.955),
    (70, 0.985),
    (90, 0.9999),
)
AGE_GROUP_STARTS = (3, 10, 20, 30, 40, 50, 60, 70)

# The phi coefficients of CelebA's annotations in percent, where they reach 10 percent; the pairs
# Smiling/Mouth_Slightly_Open and Male/Smiling as published with NARL's experiments.
_CELEBA = """
Arched_Eyebrows: 5_o_Clock_Shadow -16
Bags_Under_Eyes: 5_o_Clock_Shadow 17
Bald: Bags_Under_Eyes 12
Big_Lips: Arched_Eyebrows 24
Big_Nose: 5_o_Clock_Shadow 15, Bags_Under_Eyes 36, Bald 18
Black_Hair: 5_o_Clock_Shadow 10
Blond_Hair: 5_o_Clock_Shadow -13, Arched_Eyebrows 13, Bags_Under_Eyes -11, Big_Nose -16,
    Black_Hair -23
Brown_Hair: Big_Nose -13, Black_Hair -25, Blond_Hair -17
Bushy_Eyebrows: 5_o_Clock_Shadow 22, Bags_Under_Eyes 11, Big_Nose 14, Black_Hair 26, Blond_Hair
    -15
Chubby: Bags_Under_Eyes 16, Bald 22, Big_Nose 31
Double_Chin: Bags_Under_Eyes 20, Bald 21, Big_Nose 30, Chubby 53
Eyeglasses: Arched_Eyebrows -15, Bald 11, Big_Nose 14, Chubby 17, Double_Chin 15
Goatee: 5_o_Clock_Shadow 14, Arched_Eyebrows -11, Bald 12, Big_Nose 19, Blond_Hair -10,
    Bushy_Eyebrows 11, Chubby 16
Gray_Hair: Bags_Under_Eyes 17, Bald 15, Big_Nose 20, Black_Hair -12, Brown_Hair -10, Chubby 21,
    Double_Chin 25, Eyeglasses 16
Heavy_Makeup: 5_o_Clock_Shadow -28, Arched_Eyebrows 44, Bags_Under_Eyes -29, Bald -12, Bangs 12,
    Big_Lips 15, Big_Nose -28, Blond_Hair 25, Blurry -14, Bushy_Eyebrows -13, Chubby -17,
    Double_Chin -15, Eyeglasses -20, Goatee -21, Gray_Hair -15
High_Cheekbones: 5_o_Clock_Shadow -16, Arched_Eyebrows 16, Blond_Hair 12, Goatee -11,
    Heavy_Makeup 27
Male: 5_o_Clock_Shadow 42, Arched_Eyebrows -41, Bags_Under_Eyes 30, Bald 18, Bangs -16, Big_Lips
    -17, Big_Nose 37, Black_Hair 12, Blond_Hair -30, Brown_Hair -11, Bushy_Eyebrows 25, Chubby
    23, Double_Chin 21, Eyeglasses 20, Goatee 31, Gray_Hair 18, Heavy_Makeup -67,
    High_Cheekbones -25
Mouth_Slightly_Open: Heavy_Makeup 10, High_Cheekbones 42, Male -10
Mustache: Bags_Under_Eyes 11, Big_Nose 21, Bushy_Eyebrows 10, Chubby 18, Double_Chin 12, Goatee
    45, Heavy_Makeup -17, Male 25
Narrow_Eyes: Bags_Under_Eyes 11, Big_Lips 11, Mouth_Slightly_Open 11
No_Beard: 5_o_Clock_Shadow -53, Arched_Eyebrows 20, Bags_Under_Eyes -15, Bald -12, Bangs 13,
    Big_Nose -25, Blond_Hair 17, Bushy_Eyebrows -20, Chubby -17, Eyeglasses -11, Goatee -57,
    Heavy_Makeup 35, High_Cheekbones 19, Male -52, Mustache -45
Oval_Face: Bags_Under_Eyes -14, Big_Lips -11, Big_Nose -11, Heavy_Makeup 21, High_Cheekbones 21,
    Male -12
Pointy_Nose: Arched_Eyebrows 15, Bags_Under_Eyes -11, Big_Nose -16, Blond_Hair 12, Chubby -12,
    Eyeglasses -10, Heavy_Makeup 26, Male -22
Receding_Hairline: Bags_Under_Eyes 12, Bald 14, Bangs -12, Big_Nose 20, Brown_Hair -10, Chubby
    19, Double_Chin 19, Gray_Hair 25, Heavy_Makeup -11, Male 12
Rosy_Cheeks: Arched_Eyebrows 22, Blond_Hair 14, Heavy_Makeup 30, High_Cheekbones 25, Male -21,
    Mouth_Slightly_Open 13, No_Beard 11, Oval_Face 12, Pointy_Nose 17
Sideburns: 5_o_Clock_Shadow 26, Arched_Eyebrows -12, Bags_Under_Eyes 10, Big_Nose 13,
    Bushy_Eyebrows 13, Chubby 12, Goatee 51, Heavy_Makeup -19, High_Cheekbones -13, Male 29,
    Mustache 34, No_Beard -54
Smiling: Bags_Under_Eyes 11, Big_Nose 10, Double_Chin 10, Heavy_Makeup 18, High_Cheekbones 68,
    Male -13.67, Mouth_Slightly_Open 53.16, No_Beard 11, Oval_Face 21, Rosy_Cheeks 22
Straight_Hair: Black_Hair 11
Wavy_Hair: 5_o_Clock_Shadow -12, Arched_Eyebrows 20, Bags_Under_Eyes -13, Bald -10, Big_Lips 12,
    Big_Nose -13, Blond_Hair 13, Brown_Hair 15, Goatee -10, Heavy_Makeup 32, High_Cheekbones 12,
    Male -32, No_Beard 16, Pointy_Nose 14, Receding_Hairline -12, Rosy_Cheeks 13, Straight_Hair
    -32
Wearing_Earrings: 5_o_Clock_Shadow -16, Arched_Eyebrows 29, Big_Lips 13, Goatee -10,
    Heavy_Makeup 35, High_Cheekbones 23, Male -37, Mouth_Slightly_Open 13, No_Beard 19,
    Pointy_Nose 11, Rosy_Cheeks 22, Sideburns -11, Smiling 17, Wavy_Hair 12
Wearing_Hat: Arched_Eyebrows -10, Black_Hair -10, Heavy_Makeup -14, Male 13, No_Beard -12,
    Straight_Hair -10, Wavy_Hair -12
Wearing_Lipstick: 5_o_Clock_Shadow -33, Arched_Eyebrows 46, Bags_Under_Eyes -28, Bald -14, Bangs
    16, Big_Lips 20, Big_Nose -30, Blond_Hair 28, Blurry -13, Brown_Hair 10, Bushy_Eyebrows -17,
    Chubby -19, Double_Chin -17, Eyeglasses -21, Goatee -24, Gray_Hair -16, Heavy_Makeup 80,
    High_Cheekbones 28, Male -79, Mouth_Slightly_Open 10, Mustache -20, No_Beard 42, Oval_Face
    16, Pointy_Nose 26, Receding_Hairline -12, Rosy_Cheeks 27, Sideburns -23, Smiling 18,
    Wavy_Hair 36, Wearing_Earrings 37, Wearing_Hat -16
Wearing_Necklace: 5_o_Clock_Shadow -12, Arched_Eyebrows 22, Bangs 11, Big_Lips 15, Blond_Hair
    14, Heavy_Makeup 20, High_Cheekbones 12, Male -27, No_Beard 14, Rosy_Cheeks 14, Wavy_Hair
    13, Wearing_Earrings 19, Wearing_Lipstick 27
Wearing_Necktie: Arched_Eyebrows -13, Bags_Under_Eyes 20, Bald 18, Big_Nose 21, Blond_Hair -11,
    Chubby 20, Double_Chin 23, Eyeglasses 13, Gray_Hair 24, Heavy_Makeup -22, Male 33, Mustache
    10, No_Beard -12, Receding_Hairline 15, Wavy_Hair -14, Wearing_Earrings -13,
    Wearing_Lipstick -26, Wearing_Necklace -10
Young: Arched_Eyebrows 15, Bags_Under_Eyes -23, Bald -20, Big_Lips 11, Big_Nose -28, Black_Hair
    12, Brown_Hair 10, Chubby -29, Double_Chin -31, Eyeglasses -22, Goatee -11, Gray_Hair -36,
    Heavy_Makeup 24, Male -28, Mustache -14, No_Beard 12, Oval_Face 11, Receding_Hairline -19,
    Wearing_Lipstick 25, Wearing_Necktie -25
"""


def celeba_correlations() -> dict[tuple[str, str], float]:
    """Pair of attributes -> phi coefficient of their labels in CelebA; 0 for pairs not listed."""
    correlations = {}
    for entry in _CELEBA.replace("\n    ", " ").strip().splitlines():
        name, others = entry.split(": ")
        for other in others.split(", "):
            partner, percent = other.split(" ")
            correlations[name, partner] = float(percent) / 100
    return correlations
