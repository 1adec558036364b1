"""Methods that the field's tables list and this toolkit does not have."""

#: Name -> why, a sentence for the table of methods.
LEFT_OUT = {
    "RIDE": "several experts that share the early layers of one network and are routed between; what is trained and "
    "exported here is one backbone and one head (Wang et al., ICLR 2021).",
    "NCL": "several whole networks that teach one another; what is trained and exported here is one (Li et al., CVPR "
    "2022).",
    "GML (ICML 2023)": "needs a larger network, trained before, as a teacher, and queues of its features that know "
    "each image again; gml_nolb is another method (Suh and Seo, ICML 2023).",
    "ProCo": "its closed form needs Bessel functions of high order, which torch does not have, and we know no "
    "published stable form of it to test one against (Du et al., TPAMI 2024).",
    "MetaSAug": "learns its covariances through a second-order step of the whole network, on balanced images taken out "
    "of the training set, which a run's fixed split does not have (Li et al., CVPR 2021).",
    "SAFA": "we found neither code nor formulas: its abstract names a translation, a cycle, a contrastive and a "
    "diversity loss without giving them (Hong et al., ECCV 2022).",
    "LWR as published": "its penalty, coefficient and ramp are in no source we found; the regularizer lwr is a "
    "reconstruction (BMVC 2023).",
}
